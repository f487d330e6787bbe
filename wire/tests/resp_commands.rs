//! Property: commands are encoded correctly.
//! Method: random commands, in parts and as numbers, are compared with the encoding of the `redis` crate.

use proptest::prelude::*;
use wire::resp;

fn packed(arguments: &[Vec<u8>]) -> Vec<u8> {
    let mut command = redis::Cmd::new();
    for argument in arguments {
        command.arg(argument);
    }
    command.get_packed_command()
}

fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..40)
}

proptest! {
    #[test]
    fn commands_are_encoded_like_the_redis_crate(arguments in prop::collection::vec(some_bytes(), 1..9)) {
        let slices: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let mut written = Vec::new();
        resp::write_command(&mut written, &slices);
        prop_assert_eq!(written, packed(&arguments));
    }

    #[test]
    fn parts_make_one_argument(parts in prop::collection::vec(some_bytes(), 0..5)) {
        let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let mut written = Vec::new();
        resp::write_array(&mut written, 1);
        resp::write_bulk_parts(&mut written, &slices);
        prop_assert_eq!(written, packed(&[parts.concat()]));
    }

    #[test]
    fn numbers_are_written_as_text(signed in any::<i64>(), unsigned in any::<u64>(), small in -11_i64..12) {
        let edges = [i64::MIN.into(), u64::MAX.into()];
        for number in [signed.into(), unsigned.into(), small.into()].into_iter().chain(edges) {
            let number: i128 = number;
            let mut written = Vec::new();
            resp::write_array(&mut written, 1);
            resp::write_number(&mut written, number);
            prop_assert_eq!(written, packed(&[number.to_string().into_bytes()]));
        }
    }
}
