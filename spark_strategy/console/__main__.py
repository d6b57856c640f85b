"""`python -m spark_strategy.console`: the command line without the installed script."""

import sys

from spark_strategy.console.main import main

sys.exit(main())
