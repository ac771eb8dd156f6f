"""The Ray glue that jobs share."""
