//! What an image may be made of beyond the guest's own: lines that a person can judge by reading them.

/// Instructions that add to an image. The others change what it is made from, how it starts, or what it takes from elsewhere.
const ADDING: [&str; 6] = ["RUN", "ENV", "ARG", "USER", "WORKDIR", "SHELL"];

/// Checks that each instruction adds to the image before it, and that what looks like one is one: no here-documents, and
/// nothing mounted. The words are those of Docker's Dockerfile reference.
pub(super) fn check(lines: &str) -> Result<(), String> {
    let mut instructions = vec![String::new()];
    // Docker leaves out comments and empty lines, also in the middle of an instruction that goes on.
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (part, goes_on) = line.strip_suffix('\\').map_or((line, false), |part| (part, true));
        if let Some(last) = instructions.last_mut() {
            last.push_str(part);
        }
        if !goes_on {
            instructions.push(String::new());
        }
    }
    if instructions.pop().is_some_and(|rest| !rest.is_empty()) {
        return Err("its last line goes on, with nothing behind it".to_owned());
    }
    for instruction in &instructions {
        let mut words = instruction.split_whitespace();
        let word = words.next().unwrap_or_default();
        if !ADDING.iter().any(|known| word.eq_ignore_ascii_case(known)) {
            return Err(format!("`{word}` does not begin a line that adds to the image; {} do", ADDING.join(", ")));
        }
        if instruction.contains("<<") {
            return Err("a here-document can't be told from instructions; write it with `&&` and `\\`".to_owned());
        }
        if words.next().is_some_and(|option| option.starts_with("--")) {
            return Err(format!("`{word}` takes no options here"));
        }
    }
    if instructions.is_empty() { Err("it has no instruction".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn lines_that_add_are_taken_and_others_are_not() {
        let good = [
            "RUN apt-get update && apt-get install -y jq",
            "run true",
            "# tools\nRUN apt-get update \\\n # of the day\n && apt-get install -y jq\nENV A=b",
            "USER root\nWORKDIR /x",
        ];
        for lines in good {
            assert_eq!(check(lines), Ok(()), "{lines}");
        }
        let bad = [
            "FROM other",
            "RUN true\n from other AS x",
            "COPY --from=other / /",
            "ADD https://example.org/x /x",
            "ENTRYPOINT x",
            "ONBUILD RUN true",
            "VOLUME /workspace",
            "RUN cat <<E\nFROM x\nE",
            "RUN --security=insecure true",
            "RUN \\\n --network=host true",
            "RUN --mount=type=secret,id=ca cat /run/secrets/ca",
            "RUN true \\",
            "# escape=`",
            "# nothing",
            "apt-get install jq",
        ];
        for lines in bad {
            assert!(check(lines).is_err(), "{lines}");
        }
    }
}
