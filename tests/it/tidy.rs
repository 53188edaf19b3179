//! Rules of the tree: floors, unsafe, C and C++ in the dependency tree.
