"""The BITS upload protocol [MC-BUP] as pure rules: no clock, disk, loop or log."""
