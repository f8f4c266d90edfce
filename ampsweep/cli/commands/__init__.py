"""The commands, one file each or one file a group."""
