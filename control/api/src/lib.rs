//! The kinds of the Kubernetes API and what is true of each: pure functions and tables.
