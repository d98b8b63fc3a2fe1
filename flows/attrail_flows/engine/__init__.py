"""A version explained shard by shard, the same bytes on threads, processes, Ray, Dask or in turn."""
