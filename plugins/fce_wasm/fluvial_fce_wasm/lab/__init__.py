"""The laboratory: services made from files and called, with a neighbour that is called all the while."""
