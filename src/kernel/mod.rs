//! What the kernel knows and does for weir: links, addresses, routes, neighbours, queues, cores, privileges.
