"""What the machine tells: cores, memory, disk, temperature, pressure. The only place that knows psutil."""
