"""What turns one form into another: scores into catalogues, trained models into device files."""
