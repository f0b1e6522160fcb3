"""The shell: carries the machine's messages over the port `peers`, keeps its state in the database, and takes the seat `routing`."""
