import { Lesson } from './lesson';

/** The server's address is read when the page is asked for, not when it is built. */
export const dynamic = 'force-dynamic';

/** `/?session=algebra` */
export default async function Page({ searchParams }: { searchParams: Promise<{ session?: string }> }) {
  const { session = 'lobby' } = await searchParams;
  return <Lesson url={process.env.LYCEUM_URL ?? 'http://localhost:3001'} sessionId={session} />;
}
