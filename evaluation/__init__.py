"""What forecasts and limits are worth, measured on recorded runs: ``make forecast``."""
