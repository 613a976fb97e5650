"""The labels that mean "not known", shared by data sets and retrieval."""

NO_PID = -1
NO_CAMERA = -1
