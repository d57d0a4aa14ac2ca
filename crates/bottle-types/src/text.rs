//! Texts: newtypes over a `String` that only their `parse` makes, and words of a shell.

/// Gives a newtype over `String` with a `parse(&str) -> Result<Self, $error>` the rest of what a checked text has: it is
/// shown and written as it is, and read through `parse` alone.
#[macro_export]
macro_rules! checked_text {
    ($name:ident, $error:ty) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }
    };
}

/// Writes a text as one word of a POSIX shell, which expands nothing in it.
pub fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
