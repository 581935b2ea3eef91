//! Faults that the simulation or a property once found, each as small as it gets.

use mailbraid::maildir::Oid;
use mailbraid::merge::braid;

use super::text;
use super::world::Memory;

/// A history with trees as text. Heads are merged in the order of their ids, which the salt shuffles.
struct Graph {
    memory: Memory,
    salt: u32,
}

impl Graph {
    fn commit(&mut self, tree: &str, parents: &[Oid]) -> Oid {
        let tree = text::read(&mut self.memory, tree);
        let salt = self.salt.to_le_bytes();
        self.memory.commit(tree, parents, 0, &salt)
    }

    fn braid(&mut self, heads: &[Oid]) -> String {
        let merged = braid(&mut self.memory, heads).unwrap().unwrap();
        text::write(&self.memory, merged.tree)
    }
}

/// Runs a case in many orders of its commits.
fn in_any_order(case: impl Fn(&mut Graph)) {
    for salt in 0..64 {
        let mut graph = Graph {
            memory: Memory::default(),
            salt,
        };
        case(&mut graph);
    }
}

/// Three heads: two deleted a folder each that were called alike, the third has both, one of them renamed. What the first two have in common with the third is both
/// ancestors, and in their merge the folders are united: the message seemed to have moved out of the united folder.
#[test]
fn regression_11346_a_message_does_not_return_from_a_folder_united_in_the_base_alone() {
    in_any_order(|graph| {
        let root = graph.commit("", &[]);
        let one = graph.commit("X/ 10/1 g", &[root]);
        let two = graph.commit(
            "X/ 5/2 h
             X/cur/m1:2, 1",
            &[root],
        );
        let without_one = graph.commit("a =1", &[one]);
        let without_two = graph.commit("b =1", &[two]);
        let renamed = graph.commit("Y/ 10/1 g", &[one]);
        let both = graph.commit(
            "X/ 5/2 h
             X/cur/m1:2, 1
             Y/ 10/1 g",
            &[two, renamed],
        );
        let text = graph.braid(&[without_one, without_two, both]);
        assert!(!text.contains("m1"), "salt {}: {text}", graph.salt);
    });
}

/// The same, but the message was undeleted on the third head: it stays.
#[test]
fn an_undeleted_message_stays_where_a_base_alone_has_united_its_folder() {
    in_any_order(|graph| {
        let root = graph.commit("", &[]);
        let one = graph.commit("X/ 10/1 g", &[root]);
        let two = graph.commit(
            "X/ 5/2 h
             X/cur/m1:2,T 1",
            &[root],
        );
        let without_one = graph.commit("a =1", &[one]);
        let without_two = graph.commit("b =1", &[two]);
        let renamed = graph.commit("Y/ 10/1 g", &[one]);
        let both = graph.commit(
            "X/ 5/2 h
             X/cur/m1:2, 1
             Y/ 10/1 g",
            &[two, renamed],
        );
        let text = graph.braid(&[without_one, without_two, both]);
        assert!(text.contains("m1:2, "), "salt {}: {text}", graph.salt);
    });
}

/// The same, but the second head moved the message: it is where it was moved to, and nowhere else.
#[test]
fn a_moved_message_is_in_one_place_where_a_base_alone_has_united_its_folder() {
    in_any_order(|graph| {
        let root = graph.commit("Z/ 3/1 i", &[]);
        let one = graph.commit("Z/ 3/1 i\nX/ 10/1 g", &[root]);
        let two = graph.commit(
            "Z/ 3/1 i
             X/ 5/2 h
             X/cur/m1:2, 1",
            &[root],
        );
        let without_one = graph.commit("Z/ 3/1 i\na =1", &[one]);
        let moved = graph.commit(
            "X/ 5/2 h
             Z/ 3/2 i
             Z/cur/m1:2, 1",
            &[two],
        );
        let renamed = graph.commit("Y/ 10/1 g\nZ/ 3/1 i", &[one]);
        let both = graph.commit(
            "X/ 5/2 h
             X/cur/m1:2, 1
             Y/ 10/1 g
             Z/ 3/1 i",
            &[two, renamed],
        );
        let text = graph.braid(&[without_one, moved, both]);
        assert_eq!(text.matches("m1").count(), 1, "salt {}: {text}", graph.salt);
        assert!(text.contains("Z/cur/m1"), "salt {}: {text}", graph.salt);
    });
}

/// Three heads again, but each of the two folders had a copy of the message. In the merge of the ancestors they are one message in one folder, so on the third head the
/// second one seemed to be a copy that was made there, and a copy outlives what happens to the original.
#[test]
fn a_copy_does_not_return_from_a_folder_united_in_the_base_alone() {
    in_any_order(|graph| {
        let root = graph.commit("", &[]);
        let one = graph.commit("X/ 10/2 g\nX/cur/m1:2, 1", &[root]);
        let two = graph.commit("X/ 5/2 h\nX/cur/m1:2, 1", &[root]);
        let without_one = graph.commit("a =1", &[one]);
        let without_two = graph.commit("b =1", &[two]);
        let renamed = graph.commit("Y/ 10/2 g\nY/cur/m1:2, 1", &[one]);
        let both = graph.commit(
            "X/ 5/2 h
             X/cur/m1:2, 1
             Y/ 10/2 g
             Y/cur/m1:2, 1",
            &[two, renamed],
        );
        let text = graph.braid(&[without_one, without_two, both]);
        assert!(!text.contains("m1"), "salt {}: {text}", graph.salt);
    });
}
