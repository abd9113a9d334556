// Icons of the navigation and of buttons: strokes on a grid of 16.

const PATHS = {
  overview: 'M2 13V8.5M6 13V3M10 13V6.5M14 13V4.5',
  channels: 'M6 2.5 4.5 13.5M11.5 2.5 10 13.5M2.5 5.5h11.5M2 10.5h11.5',
  connections: 'M6.5 9.5 9.5 6.5M7 4.5 8.5 3a3.2 3.2 0 0 1 4.5 4.5L11.5 9M9 11.5 7.5 13A3.2 3.2 0 0 1 3 8.5L4.5 7',
  authorizations: 'M8 1.8 13 3.6v4c0 3.2-2.2 5.4-5 6.6-2.8-1.2-5-3.4-5-6.6v-4zM8 5.2v3.3M8 10.8v.1',
  webhooks: 'M2.5 8h8M7.5 4.5 11 8l-3.5 3.5M13.5 3v10',
  publish: 'M14 2 7 9M14 2 9.5 14 7 9 2 6.5z',
  log: 'M3 3h10M3 6.3h10M3 9.7h7M3 13h5',
  configuration: 'M2 4.5h6M12 4.5h2M2 11.5h2M8 11.5h6M10 2.7v3.6M6 9.7v3.6',
  apps: 'M2.5 2.5h4.5v4.5H2.5zM9 2.5h4.5v4.5H9zM2.5 9h4.5v4.5H2.5zM9 9h4.5v4.5H9z',
  copy: 'M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3',
  done: 'M3 8.5 6.5 12 13 4.5',
  menu: 'M2.5 4.5h11M2.5 8h11M2.5 11.5h11',
  close: 'M4 4l8 8M12 4l-8 8',
  back: 'M9.5 3.5 5 8l4.5 4.5',
  more: 'M5.5 3.5 10 8l-4.5 4.5',
  pause: 'M5.5 3.5v9M10.5 3.5v9',
  play: 'M5 3l7.5 5L5 13z',
  logout: 'M6 2.5H3v11h3M10 5l3 3-3 3M13 8H6.5',
  search: 'M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.3 10.3 14 14',
  in: 'M8 3v9M4 8.5 8 12.5l4-4',
  out: 'M8 13V4M4 7.5 8 3.5l4 4',
  again: 'M13 8a5 5 0 1 1-1.6-3.7M13.5 2v3h-3',
};

export function Icon({ name }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} fill="none" stroke="currentColor" stroke-width="1.4" stroke-linecap="round" stroke-linejoin="round" />
    </svg>
  );
}
