//! The memory of a table.

/// How much memory a table takes when every page of it is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableBytes {
    /// Of the index.
    pub index: usize,
    /// Of the entries.
    pub entries: usize,
    /// Of the accounts; 0 without them.
    pub accounts: usize,
}

impl TableBytes {
    /// All of it.
    pub fn total(self) -> usize {
        self.index + self.entries + self.accounts
    }
}
