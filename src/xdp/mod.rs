//! The XDP program: what is steered to weir and what stays with the kernel.
