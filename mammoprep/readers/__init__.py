"""One file a data set: tables in, `Record`s out."""
