"""M-ODISE: the paper's figure, a file a box."""
