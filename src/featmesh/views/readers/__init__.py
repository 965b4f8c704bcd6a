"""Other data sets as views: one file a data set, each stating and converting its frames."""
