//! Titles as parts of an address.

/// Makes a title a part of an address: lower case, digits, and `-` between words.
pub fn slug(title: &str) -> String {
    let mut slug = String::new();
    for letter in title.to_lowercase().chars() {
        if letter.is_ascii_alphanumeric() {
            slug.push(letter);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn words_are_parted_by_one_dash() {
        assert_eq!(slug("  Tea, or no tea?"), "tea-or-no-tea");
    }

    #[test]
    fn a_letter_keeps_its_base_without_its_accent() {
        assert_eq!(slug("Crème Brûlée"), "creme-brulee");
    }
}
