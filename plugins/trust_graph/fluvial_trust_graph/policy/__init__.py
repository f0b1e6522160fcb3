"""Who may do what: rules as data, perimeters, and the decision; pure."""
