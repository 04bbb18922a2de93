"""A counter that crashes, and its supervisor that starts it again: python examples/supervisor_tree.py."""

from acode_vllm.supervisor import ChildSpec, ReplyTo, Supervisor, Worker, WorkerDown, call


class Counter(Worker):
    """Counts; its state lives on its own thread, so it needs no lock."""

    def init(self) -> None:
        self.count = 0

    def handle_call(self, message: object, reply_to: ReplyTo) -> int:
        self.count += 10 // int(str(message))  # 0 is more than it can take
        return self.count


def main() -> None:
    """Count, crash, and count again from the beginning."""
    with Supervisor([ChildSpec("counter", Counter)], intensity=3, period=5.0, name="root") as root:
        for message in (1, 2, 0, 5):
            counter = root.whereis("counter")  # a restart makes a new one
            assert counter is not None
            try:
                print(f"{message}: counted to {call(counter, message)}")
            except WorkerDown as down:
                print(f"{message}: {down.reason}")
                root.which_children()  # answered once the supervisor has dealt with it


if __name__ == "__main__":
    main()
