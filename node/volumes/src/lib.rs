//! Volumes of pods: plugins, atomic updates, clean removal.
