"""genclass: generative image classifiers, evaluated and compared."""

__version__ = "0.1.0"
