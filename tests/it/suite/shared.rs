//! How a test of the suite says where it runs.

/// Makes a test of a function for each backend, named `FUNCTION::BACKEND`. All three stand in the list, in this order; one that is left out has
/// a reason behind a colon: `shared!(name: docker, bubblewrap, smolmachines: "a machine has no services");`. Without it, or with an
/// empty one, nothing compiles.
macro_rules! shared {
    ($test:ident: docker $(: $docker:expr)?, bubblewrap $(: $bubblewrap:expr)?, smolmachines $(: $smolmachines:expr)?) => {
        $(const _: () = assert!(!$docker.is_empty(), "docker is left out without a reason");)?
        $(const _: () = assert!(!$bubblewrap.is_empty(), "bubblewrap is left out without a reason");)?
        $(const _: () = assert!(!$smolmachines.is_empty(), "smolmachines is left out without a reason");)?
        mod $test {
            shared!(@ docker Docker $test $($docker)?);
            shared!(@ bubblewrap Bubblewrap $test $($bubblewrap)?);
            shared!(@ smolmachines Smolmachines $test $($smolmachines)?);
        }
    };
    (@ $backend:ident $place:ident $test:ident) => {
        #[test]
        fn $backend() {
            crate::place::on(crate::place::Place::$place, super::$test);
        }
    };
    (@ $backend:ident $place:ident $test:ident $why:expr) => {};
}
