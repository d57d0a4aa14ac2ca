//! Prints its arguments as part of an address.

fn main() {
    let title: Vec<String> = std::env::args().skip(1).collect();
    println!("{}", slug::slug(&title.join(" ")));
}
