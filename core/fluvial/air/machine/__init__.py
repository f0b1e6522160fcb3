"""The AIR machine: facts and call outcomes in; call requests, next peers and new facts out."""
