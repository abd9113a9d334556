//! Topics against a Redis that answers as the scripts do.
