"""What is run both under ``distribute`` and in the processes of the floor, unmodified."""

from __future__ import annotations

import time

STEPS = 400
WARM_UP_STEPS = 50


def nothing() -> int:
    """Returns at once."""
    return 0


def steps_per_second() -> float:
    """A small convolutional model on constant data: what one step costs, compilation excluded.

    Keras 3's own ``fit`` needs the library's repairs to run on several workers, so the floor
    could not run it; ``strategy.run`` of the model's forward and backward pass works in both.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    strategy = tf.distribute.get_strategy()
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    images = np.random.default_rng(1).random((64, 28, 28, 1), "float32")
    labels = np.arange(64) % 10
    rows = tf.data.Dataset.from_tensors((images, labels)).repeat()
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    batches = iter(strategy.experimental_distribute_dataset(rows.with_options(options)))

    def replica(batch: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = loss(batch[1], model(batch[0], training=True)) / 128.0
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return value

    @tf.function
    def step() -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(replica, args=(next(batches),)), axis=None)

    for _ in range(WARM_UP_STEPS):
        step()
    began = time.monotonic()
    for _ in range(STEPS):
        float(step())
    return STEPS / (time.monotonic() - began)
