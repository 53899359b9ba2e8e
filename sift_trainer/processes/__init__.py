"""Several processes: started as requested, agreeing, and with sharded parameters."""
