//! Integration suites live in the `tests` folder of this package.
