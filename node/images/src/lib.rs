//! Images: pull, verify, unpack, share, collect.
