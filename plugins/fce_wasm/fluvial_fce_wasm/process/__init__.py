"""Child processes: one that compiles, and one for each service that could block or is a stranger's. They are limited, and killed when they are late."""
