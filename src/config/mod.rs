//! From TOML to what the daemon needs: raw, checked, reported.
