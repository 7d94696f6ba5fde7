//! Files of snapshots: what is written is read back, and what was bent is noticed.
