//! The node agent: keeps the pods that are bound to this node running and tells how they are.
