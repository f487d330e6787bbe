//! Dependencies between the files of a crate must form no cycle: then a reader can start at the leaves.
//!
//! A file depends on another when it uses a path into it. A module file and the modules that it declares are one unit towards
//! each other: what a child takes from its ancestors is not counted, because a split module often keeps its shared types in
//! the parent. Test modules do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{ItemMod, ItemUse, UseTree};

use super::read;
use crate::step::Result;

/// The path of a module within its crate.
type Module = Vec<String>;

/// One complaint for each cycle.
pub(super) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut crates: BTreeMap<PathBuf, BTreeMap<Module, String>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        let inside = file.ancestors().take_while(|dir| *dir != root);
        let sources = inside.filter(|dir| dir.file_name().is_some_and(|name| name == "src")).last();
        let Some(sources) = sources else { continue };
        let module = module(sources, file);
        // The root of a crate only declares the modules; nothing is counted that uses it.
        if !module.is_empty() {
            crates.entry(sources.to_owned()).or_default().insert(module, read(file)?);
        }
    }
    let mut complaints = Vec::new();
    for (sources, texts) in &crates {
        let name = sources.strip_prefix(root).unwrap_or(sources).display();
        let found = cycles(texts).map_err(|error| format!("{name}: {error}"))?;
        complaints.extend(found.iter().map(|files| {
            format!(
                "{name}: {} depend on each other; move what they share into a file of its own",
                files.join(", ")
            )
        }));
    }
    Ok(complaints)
}

fn module(sources: &Path, file: &Path) -> Module {
    let path = file.strip_prefix(sources).unwrap_or(file).with_extension("");
    let mut module: Module = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| ["lib", "main", "mod"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

/// The modules of each cycle.
fn cycles(texts: &BTreeMap<Module, String>) -> syn::Result<Vec<Vec<String>>> {
    let mut reached: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for (module, text) in texts {
        let mut paths = Paths { module, modules: texts, uses: BTreeSet::new(), inline: 0 };
        paths.visit_file(&syn::parse_file(text)?);
        reached.insert(module, paths.uses);
    }
    // Few files per crate: the closure by repetition is fast enough.
    loop {
        let before: usize = reached.values().map(BTreeSet::len).sum();
        for module in texts.keys() {
            let further: Vec<&Module> =
                reached[module].iter().flat_map(|used| reached[used].iter().copied()).collect();
            reached.entry(module).or_default().extend(further);
        }
        if reached.values().map(BTreeSet::len).sum::<usize>() == before {
            break;
        }
    }
    let mut found: BTreeSet<Vec<String>> = BTreeSet::new();
    for module in texts.keys().filter(|module| reached[*module].contains(module)) {
        let is_mutual = |other: &&&Module| reached[*other].contains(module);
        found.insert(reached[module].iter().filter(is_mutual).map(|module| module.join("::")).collect());
    }
    Ok(found.into_iter().collect())
}

/// Collects the modules that a file uses.
struct Paths<'a> {
    module: &'a Module,
    modules: &'a BTreeMap<Module, String>,
    uses: BTreeSet<&'a Module>,
    /// Inline modules around the current item.
    inline: usize,
}

impl Paths<'_> {
    fn note(&mut self, path: &[String]) {
        let mut base = self.module.clone();
        let mut rest = path;
        match path.first().map(String::as_str) {
            Some("crate") => (base, rest) = (Vec::new(), &path[1..]),
            Some("self") => rest = &path[1..],
            _ => {}
        }
        let supers = rest.iter().take_while(|part| *part == "super").count();
        rest = &rest[supers..];
        base.truncate(base.len() - supers.saturating_sub(self.inline).min(base.len()));
        base.extend_from_slice(rest);
        // The longest prefix that is a file; what remains are its items.
        let target = (1..=base.len()).rev().find_map(|length| self.modules.get_key_value(&base[..length]));
        if let Some((target, _)) = target
            && !self.module.starts_with(target)
        {
            self.uses.insert(target);
        }
    }

    fn tree(&mut self, prefix: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(prefix, tree)),
            UseTree::Name(name) => self.note(&with(&name.ident)),
            UseTree::Rename(rename) => self.note(&with(&rename.ident)),
            UseTree::Glob(_) => self.note(prefix),
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.note(&path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>());
        }
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if item.ident != "tests" {
            // `super` in an inline module is the file itself.
            self.inline += usize::from(item.content.is_some());
            visit::visit_item_mod(self, item);
            self.inline -= usize::from(item.content.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let module =
            |name: &str| name.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let texts = files.iter().map(|(name, text)| (module(name), (*text).to_owned())).collect();
        cycles(&texts).expect("the sources parse")
    }

    #[test]
    fn mutual_use_is_reported_once() {
        let files = [
            ("a", "use crate::b::{self, B}; pub struct A;"),
            ("b", "pub struct B; fn f() -> super::c::C { todo() }"),
            ("c", "pub struct C(crate::a::A);"),
        ];
        assert_eq!(found(&files), [["a", "b", "c"]]);
    }

    #[test]
    fn parents_tests_and_other_crates_do_not_count() {
        let files = [
            ("a", "mod child; use child::f; use b::Elsewhere; pub struct A;"),
            ("a::child", "use super::A; pub fn f() {}"),
            ("b", "use crate::a::A; #[cfg(test)] mod tests { use crate::c::C; }"),
            ("c", "use crate::b::B; pub struct C;"),
        ];
        assert_eq!(found(&files), Vec::<Vec<String>>::new());
    }
}
