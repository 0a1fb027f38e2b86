// SPDX-License-Identifier: Apache-2.0
/** A command on a terminal of its own (python3's pty): 100 columns, 30 rows. */
import { spawn } from 'node:child_process';

/** Resizes to 60 columns and 12 rows. */
export const RESIZE = 'R';
/** Ends the command with SIGTERM, as the end of input does. */
export const TERMINATE = 'T';

const program = `
import fcntl, os, pty, select, signal, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
def size(rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
size(30, 100)
while True:
    ready, _, _ = select.select([fd, 0], [], [])
    if fd in ready:
        try:
            data = os.read(fd, 65536)
        except OSError:
            break
        if not data:
            break
        os.write(1, data)
    if 0 in ready:
        data = os.read(0, 1)
        if data == b'${RESIZE}':
            size(12, 60)
        elif data in (b'${TERMINATE}', b''):
            os.kill(pid, signal.SIGTERM)
        else:
            os.write(fd, data)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
`;

export interface TerminalSession {
  /** What was written so far; a terminal has one stream for both outputs. */
  output(): string;
  /** Keys, RESIZE, TERMINATE. */
  type(keys: string): void;
  /** Exit code. */
  readonly done: Promise<number | null>;
}

export function onTerminal(command: readonly string[], env: NodeJS.ProcessEnv = {}): TerminalSession {
  const child = spawn('python3', ['-c', program, ...command], {
    env: { ...process.env, TERM: 'xterm-256color', NO_COLOR: '', ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.on('data', (data: Buffer) => {
    text += data.toString();
  });
  return {
    output: () => text,
    type: (keys) => void child.stdin.write(keys),
    done: new Promise((resolve) => child.once('close', (code) => resolve(code))),
  };
}
