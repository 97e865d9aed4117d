"""What a mode means: filter chains per OperationMode. Pure: the model and the standard library only."""
