//! Who answers a request: the native engine in this process.
