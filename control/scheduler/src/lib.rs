//! The scheduler: a pure decision core and a thin driver.
