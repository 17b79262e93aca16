"""Programs that can move, one file each, with a class `Program` (`nve.task.program`)."""
