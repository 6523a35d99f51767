//! The controllers: each a pure plan, and the executor they share.
