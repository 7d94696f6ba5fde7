//! No other crate can make, copy or reuse a permit: each attempt must fail to compile.

#[test]
fn permits_are_sealed() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
