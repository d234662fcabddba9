"""An operator's hour: processes come and go under the shipped rules; who is told of what."""
