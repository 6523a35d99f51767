//! The process that outlives the agent: one per pod, it starts, reaps and logs containers.
