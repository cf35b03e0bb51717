//! The example that is measured if no directory is given: examples/shop, compiled into the program.

/// Its files, by name.
pub(super) const SHOP: &[(&str, &str)] = &[
    ("README.md", include_str!("../../../examples/shop/README.md")),
    ("namespaces.yaml", include_str!("../../../examples/shop/namespaces.yaml")),
    ("pods-node-a.yaml", include_str!("../../../examples/shop/pods-node-a.yaml")),
    ("pods-node-b.yaml", include_str!("../../../examples/shop/pods-node-b.yaml")),
    ("policies-api.yaml", include_str!("../../../examples/shop/policies-api.yaml")),
    ("policies-data.yaml", include_str!("../../../examples/shop/policies-data.yaml")),
    ("policies-web.yaml", include_str!("../../../examples/shop/policies-web.yaml")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_of_the_example_is_built_in() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/shop");
        let entries = std::fs::read_dir(root).unwrap();
        let there: BTreeSet<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let built_in: BTreeSet<String> = SHOP.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(there, built_in);
    }
}
