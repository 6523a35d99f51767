//! Control groups of pods and containers, on version 2 and on hybrid hosts.
