//! What opens an upstream. Only an effect in flight can show it, so code without a permit has
//! nothing to call with. It never appears in logs, records or errors.

/// A secret of the configuration, by reference to where it came from.
#[derive(Clone)]
pub struct Credential {
    header: String,
    value: String,
}

impl Credential {
    /// A credential that travels as an HTTP header.
    #[must_use]
    pub fn header(name: &str, value: &str) -> Self {
        Self { header: name.to_owned(), value: value.to_owned() }
    }

    /// The header's name and value.
    #[must_use]
    pub fn as_header(&self) -> (&str, &str) {
        (&self.header, &self.value)
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({}: ..)", self.header)
    }
}
