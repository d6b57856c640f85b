"""Keras 3 ``fit``, ``evaluate`` and ``predict`` under ParameterServerStrategy."""
